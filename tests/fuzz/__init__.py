"""Fuzzing of every reader: thousands of damaged inputs a minute, each of which must give a result or one InputError.

    make fuzz [MINUTES=60] [SEED=7] [READERS=ct-dicom,mask-seg]    a long run

An input is a `Case`: a reader, one of its valid samples (made by the tests' own generators: a few slices of 16 pixels),
and a few edits of the sample's files. A case is a line of JSON, so whatever fails is repeated by one line:

    PYTHONPATH=src:tests python -m fuzz --replay '{"reader": ..., "sample": ..., "edits": [...]}'

and what failed once is kept in corpus.jsonl. Cases run in a process of their own (`worker`) with limits on time and
memory (`limits`), so that hangs, crashes of C libraries and bombs count as failures and end nothing else.

samples.py  valid files       readers.py  what is called, and what its result must be
edits/      damage            campaign.py  starts workers, groups failures by their cause, sums up
"""
