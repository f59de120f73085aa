"""An index that follows its photos: what changed since is embedded, what is gone is removed, the rest stays."""
