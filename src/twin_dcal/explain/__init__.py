"""Why a pair looks alike or different to a model: attention, attribution of its cosine, and how far to trust them."""
