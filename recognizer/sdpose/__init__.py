"""SDPose: a token-based pose network that distils itself; registered with mmpose."""
