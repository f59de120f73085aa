"""What a model costs on a machine, predicted from its configuration: time, memory and size, by calibration."""
