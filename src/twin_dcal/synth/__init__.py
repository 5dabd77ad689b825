"""Generated faces: data that ships with the project, without people, assets or network."""
