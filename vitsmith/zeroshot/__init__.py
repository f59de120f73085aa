"""Classification with words: the classes are texts, and no training is needed."""
