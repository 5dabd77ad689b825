"""Look-alikes: people who are mutually nearest, as families for data sets without twins."""
