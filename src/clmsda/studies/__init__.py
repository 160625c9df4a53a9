"""Studies: variants x folds x seeds on one cohort, trained, evaluated and set beside peers (paper section 3)."""
