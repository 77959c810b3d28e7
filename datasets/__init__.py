"""What a run reads: image files in, uint8 crops and binary masks out."""
