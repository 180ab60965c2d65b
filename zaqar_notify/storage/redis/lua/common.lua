-- What all operations share. Of a queue `q` (its base key) this touches:
--   q:head       hash: rules, revision, until, turn, salt, life (while the queue lives), the last position
--                (ms, count), freed, dropped_at; noting, changes, move as transfer.lua says
--   q:records    hash: the record of each message, by position (records.py has the form)
--   q:states     hash: claim count and claim of each message that was claimed: "COUNT CLAIM"
--   q:free q:claimed q:delayed    sorted sets by position: a message is in one of them
--   q:held       sorted set: claimed and delayed messages by the instant at which they fall due
--   q:expiring   sorted set: all messages by their expiry
--   q:claims q:leases    hash and sorted set (by end): "TTL END POSITION…" of each claim
--   q:moved      hash: position of an id ("i" + id) and id of a position ("p" + position), of messages that
--                have their id from another queue
--   q:sealed     sorted set: "KEY:POSITION" of encrypted messages
-- and of the tag: T:clients T:internal (names), T:due (queues by the sweep's next instant), T:sealed (queues).

local call = redis.call
local T = KEYS[1]
local SENDER = ARGV[1]
local MOST = 500
local clock = call('TIME')
local present = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ops = {}

-- Calls a command with any number of arguments, by parts that fit on the stack; `width` belong together.
local function many(command, key, values, width)
  local part = 2000 - 2000 % (width or 1)
  local sum = 0
  for first = 1, #values, part do
    local done = call(command, key, unpack(values, first, math.min(first + part - 1, #values)))
    sum = sum + (tonumber(done) or 0)
  end
  return sum
end

local function read_many(command, key, fields)
  local found = {}
  for first = 1, #fields, 2000 do
    local part = call(command, key, unpack(fields, first, math.min(first + 1999, #fields)))
    for i = 1, #part do found[#found + 1] = part[i] end
  end
  return found
end

local function position(ms, count)
  if count >= 1048576 then
    ms, count = ms + math.floor(count / 1048576), count % 1048576
  end
  return string.format('%011x%05x', ms, count)
end

-- The sweep has something to do with the queue at this instant.
local function due(q, instant)
  call('ZADD', T .. ':due', 'LT', instant, q)
end

-- Notes which things of the queue changed, while it is being moved (transfer.lua).
local noting = {}
local function note(q, kind, names)
  if noting[q] == nil then noting[q] = call('HEXISTS', q .. ':head', 'noting') == 1 end
  if not noting[q] or #names == 0 then return end
  local last, changed = call('HINCRBY', q .. ':head', 'changes', #names), {}
  for i, name in ipairs(names) do
    changed[2 * i - 1], changed[2 * i] = last - #names + i, kind .. name
  end
  many('ZADD', q .. ':changes', changed, 2)
end

-- Tells other processes that messages became visible, or are held until an instant.
local function wake(q, visible, held_until, sender)
  call('PUBLISH', q, (sender or SENDER) .. ' ' .. visible .. ' ' .. (held_until or 0))
end

local function header(record)
  local client, key, moved, size, ttl = struct.unpack('>HBBII', record)
  return client, key, moved, size, ttl
end

local function client_of(record)
  return record:sub(22, 21 + struct.unpack('>H', record))
end

local function key_of(record)
  local client, key = struct.unpack('>HB', record)
  return record:sub(22 + client, 21 + client + key)
end

local function moved_of(record)
  local client, key, moved = struct.unpack('>HBB', record)
  return record:sub(22 + client + key, 21 + client + key + moved)
end

-- Whether the caller must decrypt the body: a key's id stands beside it, or it begins as an envelope does.
local function is_sealed(record)
  local client, key, moved = header(record)
  return key > 0 or record:byte(22 + client + key + moved + record:byte(21)) == 1
end

-- The record of a message that leaves: under the id it has, with another ttl (0: its own).
local function moved_record(record, id, ttl)
  local client, key, moved, size, own = header(record)
  local first = struct.pack('>HBBII', client, key, #id, size, ttl > 0 and ttl or own)
  local names = 22 + client + key
  return first .. record:sub(13, names - 1) .. id .. record:sub(names + moved)
end

local function ttl_of(record)
  local _, _, _, _, ttl = header(record)
  return ttl
end

-- The last position of the queue as two numbers.
local function last_of(q)
  local head = call('HMGET', q .. ':head', 'ms', 'count')
  return tonumber(head[1] or 0), tonumber(head[2] or 0)
end

-- The salt of the queue's life; an internal queue begins one with `fresh`. False: there is no head.
local function salt_of(q, internal, fresh)
  local salt = call('HGET', q .. ':head', 'salt')
  if not salt and internal then
    salt = fresh
    call('HSET', q .. ':head', 'salt', salt, 'rules', '{}', 'revision', 0, 'until', 0, 'turn', 0,
      'life', salt)
    call('HDEL', q .. ':head', 'dropped_at')
    call('ZADD', T .. ':internal', 0, internal)
  end
  return salt
end

-- Takes as many positions in a row at the end of the queue, or from one that was asked for (which is behind its last).
-- Returns the first as two numbers.
local function take(q, wanted, ms, count)
  if not ms then
    local last_ms, last_count = last_of(q)
    ms, count = present, 0
    if last_ms >= ms then ms, count = last_ms, last_count + 1 end
  end
  local last = count + wanted - 1
  call('HSET', q .. ':head', 'ms', ms + math.floor(last / 1048576), 'count', last % 1048576)
  return ms, count
end

-- Appends records; `lives` has ttl and delay of each, in ms. The rest is as in `take`.
local function append(q, records, lives, now, ms, count)
  ms, count = take(q, #records, ms, count)
  local stored, expiring, free, delayed, held, sealed, moved = {}, {}, {}, {}, {}, {}, {}
  local first_expiry, first_held = nil, nil
  local positions = {}
  for i, record in ipairs(records) do
    local at, ttl, delay = position(ms, count + i - 1), lives[2 * i - 1], lives[2 * i]
    positions[i] = at
    stored[2 * i - 1], stored[2 * i] = at, record
    expiring[2 * i - 1], expiring[2 * i] = now + ttl, at
    if not first_expiry or now + ttl < first_expiry then first_expiry = now + ttl end
    if delay > 0 then
      delayed[#delayed + 1], delayed[#delayed + 2] = 0, at
      held[#held + 1], held[#held + 2] = now + delay, at
      if not first_held or now + delay < first_held then first_held = now + delay end
    else
      free[#free + 1], free[#free + 2] = 0, at
    end
    local _, key_length, moved_length = header(record)
    if key_length > 0 then
      sealed[#sealed + 1], sealed[#sealed + 2] = 0, key_of(record) .. ':' .. at
    end
    if moved_length > 0 then
      local id = moved_of(record)
      moved[#moved + 1], moved[#moved + 2] = 'i' .. id, at
      moved[#moved + 1], moved[#moved + 2] = 'p' .. at, id
    end
  end
  many('HSET', q .. ':records', stored, 2)
  many('ZADD', q .. ':expiring', expiring, 2)
  many('ZADD', q .. ':free', free, 2)
  many('ZADD', q .. ':delayed', delayed, 2)
  many('ZADD', q .. ':held', held, 2)
  many('HSET', q .. ':moved', moved, 2)
  if #sealed > 0 then
    many('ZADD', q .. ':sealed', sealed, 2)
    call('ZADD', T .. ':sealed', 0, q)
  end
  note(q, 'm', positions)
  due(q, first_expiry)
  wake(q, #free / 2, first_held)
  return ms, count
end

-- How far the queue is: whoever compares two of these notes what happened in between.
local function state_of(q)
  local head = call('HMGET', q .. ':head', 'freed', 'ms', 'count')
  return {tonumber(head[1] or 0), tonumber(head[2] or 0), tonumber(head[3] or 0)}
end

-- Frees up to MOST held messages that are due, and forgets claims that are over. False: there are more.
local function free_due(q, now)
  local fallen = call('ZRANGEBYSCORE', q .. ':held', '-inf', now, 'LIMIT', 0, MOST)
  if #fallen == 0 then return true end
  call('ZREM', q .. ':held', unpack(fallen))
  call('ZREM', q .. ':claimed', unpack(fallen))
  call('ZREM', q .. ':delayed', unpack(fallen))
  local free = {}
  for i, at in ipairs(fallen) do free[2 * i - 1], free[2 * i] = 0, at end
  call('ZADD', q .. ':free', unpack(free))
  call('HINCRBY', q .. ':head', 'freed', 1)
  note(q, 'm', fallen)
  -- The caller's own process looks at its watches, too: it takes one of them at most.
  if #fallen > 1 then wake(q, #fallen - 1, nil, '-') end
  return #fallen < MOST
end

-- Removes messages by their positions, wherever they are.
local function remove(q, gone)
  if #gone == 0 then return end
  note(q, 'm', gone)
  if call('EXISTS', q .. ':sealed') == 1 then
    local records, sealed = read_many('HMGET', q .. ':records', gone), {}
    for i, at in ipairs(gone) do
      if records[i] then sealed[#sealed + 1] = key_of(records[i]) .. ':' .. at end
    end
    many('ZREM', q .. ':sealed', sealed)
  end
  if call('EXISTS', q .. ':moved') == 1 then
    local ids, fields = {}, {}
    for i, at in ipairs(gone) do ids[i] = 'p' .. at end
    for i, id in ipairs(read_many('HMGET', q .. ':moved', ids)) do
      if id then
        fields[#fields + 1], fields[#fields + 2] = ids[i], 'i' .. id
      end
    end
    many('HDEL', q .. ':moved', fields)
  end
  many('HDEL', q .. ':records', gone)
  many('HDEL', q .. ':states', gone)
  many('ZREM', q .. ':expiring', gone)
  local left = #gone - many('ZREM', q .. ':free', gone)
  if left > 0 then
    many('ZREM', q .. ':held', gone)
    many('ZREM', q .. ':claimed', gone)
    many('ZREM', q .. ':delayed', gone)
  end
end

-- The position of the message that has this id; nil: there is none.
local function resolve(q, id, salt)
  local at = call('HGET', q .. ':moved', 'i' .. id)
  if at then return at end
  if #id == 24 and id:sub(17) == salt then
    at = id:sub(1, 16)
    if call('HEXISTS', q .. ':moved', 'p' .. at) == 0 then return at end
  end
end

-- A message as it is: position, expiry, held until (0: not), state, record.
local function rows_of(q, positions)
  if #positions == 0 then return {} end
  local expiries = read_many('ZMSCORE', q .. ':expiring', positions)
  local holds = read_many('ZMSCORE', q .. ':held', positions)
  local states = read_many('HMGET', q .. ':states', positions)
  local records = read_many('HMGET', q .. ':records', positions)
  local rows = {}
  for i, at in ipairs(positions) do
    if records[i] then
      rows[#rows + 1] = {at, tonumber(expiries[i]), tonumber(holds[i] or 0), states[i] or '', records[i]}
    end
  end
  return rows
end

-- The claim count and the claim of a state.
local function parsed(state)
  if not state or state == '' then return 0, '' end
  local count, claim = state:match('^(%d+) (.*)$')
  return tonumber(count), claim
end
