"""From a bundle of torch weights to a program for another engine, behind the gate."""
