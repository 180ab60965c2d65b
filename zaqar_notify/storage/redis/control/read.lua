-- A read of the control store, from a server that takes writes: a replica may lack what was acknowledged.
-- KEYS: the key. ARGV: a command that reads, and its arguments behind the key.
-- PERSIST changes nothing, since no key of the store expires. A replica refuses it, a server without memory does not.
redis.call('PERSIST', KEYS[1])
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
