-- An answer is complete up to `next`, which may be later than the last row in it: a poller goes on from
-- either.
ALTER TABLE answers ADD COLUMN next INTEGER NOT NULL DEFAULT 0;
UPDATE answers SET next = stop;
CREATE INDEX answers_by_next ON answers (next);
