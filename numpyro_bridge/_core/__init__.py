"""What every folder may use: shape names, checks of settings, precision, devices, files."""
