"""The search for a baseline network (section 4): spaces, samplers, the reward."""
