"""What the estimators of mutual information read where the truth is known."""
