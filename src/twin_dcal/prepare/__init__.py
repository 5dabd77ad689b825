"""From photographs to a data set: faces found, aligned, measured, told apart from their copies, and described."""
