"""Models of the Hugging Face hub: which files of a repository are needed, fetched into the hub's own cache."""
