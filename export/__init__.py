"""Exports a trained network and proves the file that ships; installed as `adprune_keras.export`."""

from adprune_keras.export.pipeline import export_model as export_model
from adprune_keras.export.verify import VerificationError as VerificationError
