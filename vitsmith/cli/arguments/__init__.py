"""What stands on a command line: verbs' options and arguments, read, checked and explained."""
