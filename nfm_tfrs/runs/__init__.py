"""What training leaves behind, written whole or not at all."""
