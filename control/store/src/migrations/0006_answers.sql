-- Answers that were continued stay for a while: it may have been another poller's that was.
ALTER TABLE answers ADD COLUMN followed INTEGER NOT NULL DEFAULT 0; -- counts up; 0: nobody did yet
CREATE INDEX answers_by_followed ON answers (followed) WHERE followed > 0;
