"""Use cases: one verb phrase a module, one public function each; ``ports`` owns the Protocols."""
