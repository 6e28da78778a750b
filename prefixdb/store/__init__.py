"""The storage seam: ``base`` is the contract, ``rocksdict`` an implementation."""
