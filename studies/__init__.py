"""Studies of the paper's claims: programs that produce the folders of docs/studies."""
