-- One write of the control store.
-- KEYS: all keys that it reads or changes, of one hash tag; arguments name them by their numbers.
-- ARGV: the number of checks; for each check a key, a field, '1' or '0' (it must be there, or must not), its value; for
-- each command the number of its words, its name, a key, its arguments.
-- Answer: 1 if it was done; 0 if another write changed what the caller had read, and nothing was done.
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local wanted = ARGV[at + 2] == '1' and ARGV[at + 3]
  if redis.call('HGET', KEYS[tonumber(ARGV[at])], ARGV[at + 1]) ~= wanted then
    return 0
  end
  at = at + 4
end
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])], unpack(ARGV, at + 3, last))
  at = last + 1
end
return 1
