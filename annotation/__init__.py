"""The annotation pipeline: videos -> poses -> tracks -> training pickles."""
