"""Classification with words: the classes are texts, and nothing is trained."""
