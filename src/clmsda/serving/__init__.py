"""Where clmsda meets other systems: a PACS, over DICOMweb and over DIMSE.

Nothing here reaches for the network unless it is given an address. The libraries for it are an extra:
`pip install 'clmsda[pacs]'`; they are imported when a connection is made.
"""
