"""The paper's scaling studies (Figures 3, 4 and 8) for any network on any data."""
