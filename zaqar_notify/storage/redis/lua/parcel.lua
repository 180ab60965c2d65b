-- Parcels: messages on their way to a queue of another tag, which no script can reach. The write that they belong to
-- puts them into a list of its own tag; whoever forwards them may end at any step, and begin anew. This touches
--   T:parcels   list: {number, queue, internal name or '', ttl, delay, instant, record}, as MessagePack
--   T:parcelled the number of the last parcel
--   T:received  sorted set: TAG:NUMBER of parcels that came here, by when that was

local RECEIVED_KEPT_MS = 86400000

local function send(target, internal, lives, now, record)
  local parcel_number = call('INCR', T .. ':parcelled')
  call('RPUSH', T .. ':parcels', cmsgpack.pack({
    parcel_number, target, internal or '', lives[1], lives[2], now, record,
  }))
end

-- A job of an operation, {queue or 0, internal name, fresh salt, lives, record, key of a queue of another tag}
local function append_job(job, now)
  local record = ARGV[3 + job[5]]
  if job[1] == 0 then return send(job[6], job[2], job[4], now, record) end
  local outbox = KEYS[job[1] + 1]
  salt_of(outbox, job[2], job[3])
  append(outbox, {record}, job[4], now)
end

-- {'parcels', 0, limit}: the first ones
ops.parcels = function(_, op)
  return call('LRANGE', T .. ':parcels', 0, op[3] - 1)
end

-- {'receive', queue, TAG:NUMBER, internal name or false, fresh salt, ttl, delay, instant, record}
-- {true}; or {false} when a client's queue has no head
ops.receive = function(q, op)
  call('ZREMRANGEBYSCORE', T .. ':received', '-inf', present - RECEIVED_KEPT_MS)
  if call('ZSCORE', T .. ':received', op[3]) then return {true} end
  if not salt_of(q, op[4], op[5]) then return {false} end
  append(q, {ARGV[3 + op[9]]}, {op[6], op[7]}, op[8])
  call('ZADD', T .. ':received', present, op[3])
  return {true}
end

-- {'sent', 0, first record, count}: these parcels came
ops.sent = function(_, op)
  for i = 0, op[4] - 1 do call('LREM', T .. ':parcels', 1, ARGV[3 + op[3] + i]) end
  return {true}
end
