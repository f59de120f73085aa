"""What concerns the whole process: its children, forks, and what libraries print or report."""
