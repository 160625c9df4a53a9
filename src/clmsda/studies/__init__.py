"""Studies: variants x folds x seeds on one cohort, trained, evaluated and set beside peers (paper section 3).

The science, each in a file that can be read alone:

    config       what a study is, from its TOML: cohort, split, variants, seeds, protocols, peers
    protocols    what a method is told about a tumor, and the mask that it gives for that
    peers        masks of other systems, and region growing, under the same protocols
    scores       what is measured of a mask beside the truth
    statistics   means over patients with bootstrap intervals, paired tests with Holm's correction, limits of agreement
    confidence   whether a model's confidence holds
    results      a study's scores, averaged patient by patient; its paired tests, its differences of volume and diameter

How it gets done, though it is killed: `running` trains and evaluates, `folder` keeps what was studied, `score_rows` the
files of scores, `progress` how far it is. `report` prints it all as the paper does: tables, figures and one page.
"""
