-- When the time that rows are stamped with began anew, because a clock that had been ahead was set
-- back; 0: never. Since then, `sampled` and `cut` only grow.
ALTER TABLE clock ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
