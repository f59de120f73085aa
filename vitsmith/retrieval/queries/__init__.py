"""What is asked of an index: words and images, in one query or several, and conditions on columns."""
