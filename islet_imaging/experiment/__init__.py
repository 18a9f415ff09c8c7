"""What a folder of stainings is: its sample sheet, its drafted protocol, its calibration images."""
