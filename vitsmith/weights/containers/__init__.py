"""Files of arrays, opened with care: .npz, safetensors, torch.save."""
