"""STEP 1 of section 4: the coefficients of compound scaling, by training each point of a grid."""
