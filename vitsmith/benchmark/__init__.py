"""Models, engines and precisions measured side by side on this machine."""
