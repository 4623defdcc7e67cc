"""What happens between the embeddings and the tower: one interaction block a file."""
