"""An HTTP service that classifies images for other programs: `compoundnet serve --api`."""
