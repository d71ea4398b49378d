"""Images from wherever they are, as batches ready for `fit`."""

from adprune_keras.data.loading import Data as Data
from adprune_keras.data.loading import load as load
from adprune_keras.data.loading import reading as reading
