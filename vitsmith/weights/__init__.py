"""Reading and writing weights. Foreign names and layouts stop here."""
