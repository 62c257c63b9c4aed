-- Who may use the server. A guest becomes a full account by gaining an email; its id, and so its data, stays.
CREATE TABLE users (
    id text PRIMARY KEY,
    username text NOT NULL,
    email text,
    full_name text,
    is_guest boolean NOT NULL,
    roles text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- One account per address, however it is written.
CREATE UNIQUE INDEX users_email_key ON users (lower(email)) WHERE email IS NOT NULL;
