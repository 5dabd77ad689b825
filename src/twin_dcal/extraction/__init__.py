"""Features of folders of pictures, one or millions, and what can be read off them. What `dcal-extract` calls."""
