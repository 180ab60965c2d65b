-- Claims and pops; the keys are those of common.lua.

local function names_of(list)
  local names = {}
  for _, name in ipairs(list) do names[name] = true end
  return names
end

-- The first `limit` visible messages behind `after`. Set apart are those that expired and those that were
-- claimed `most` times (-1: any). Passed over are messages of clients in `without`, under keys that are not in
-- `keys`, and at the positions in `skipped`.
local function scan(q, now, limit, after, most, without, keys, skipped)
  local found = {taken = {}, exhausted = {}, expired = {}, is_cut = false, passed = 0}
  local from, wanted = after == '' and '-' or '(' .. after, limit
  while #found.taken < limit do
    local positions = call('ZRANGEBYLEX', q .. ':free', from, '+', 'LIMIT', 0, math.min(wanted, MOST))
    if #positions == 0 then break end
    local expiries = call('ZMSCORE', q .. ':expiring', unpack(positions))
    local states = call('HMGET', q .. ':states', unpack(positions))
    local records = call('HMGET', q .. ':records', unpack(positions))
    for i, at in ipairs(positions) do
      local count, record = parsed(states[i]), records[i]
      local key = key_of(record)
      if tonumber(expiries[i]) <= now then
        found.expired[#found.expired + 1] = at
      elseif (key ~= '' and not keys[key]) or skipped[at] or without[client_of(record)] then
        found.passed = found.passed + 1
      elseif most >= 0 and count >= most then
        found.exhausted[#found.exhausted + 1] = {at, tonumber(expiries[i]), 0, states[i] or '', record}
      elseif #found.taken < limit then
        found.taken[#found.taken + 1] = {at, tonumber(expiries[i]), 0, states[i] or '', record}
      end
    end
    from, wanted = '(' .. positions[#positions], wanted * 2
    if #found.expired + #found.exhausted + found.passed >= MOST then
      found.is_cut = #found.taken == 0 and (found.passed >= MOST and 'passed' or 'again')
      found.last = positions[#positions]
      break
    end
  end
  remove(q, found.expired)
  return found
end

local function positions_of(rows)
  local positions = {}
  for i, row in ipairs(rows) do positions[i] = row[1] end
  return positions
end

-- Lets messages live until `kept` at least; returns nothing, and changes the rows, too.
local function keep(q, rows, kept)
  local longer = {}
  for _, row in ipairs(rows) do
    if row[2] < kept then
      row[2] = kept
      longer[#longer + 1], longer[#longer + 2] = kept, row[1]
    end
  end
  many('ZADD', q .. ':expiring', longer, 2)
end

-- Moves messages to another queue, free and uncounted, under the ids they have.
local function move(q, salt, rows, target, internal, ttl, now)
  local records, lives = {}, {}
  for i, row in ipairs(rows) do
    local record = row[5]
    local moved = moved_of(record)
    records[i] = moved_record(record, moved ~= '' and moved or row[1] .. salt, ttl)
    lives[2 * i - 1], lives[2 * i] = ttl_of(records[i]) * 1000, 0
  end
  remove(q, positions_of(rows))
  if target:sub(1, #T) == T then return append(target, records, lives, now) end
  for i, record in ipairs(records) do send(target, internal, {lives[2 * i - 1], 0}, now, record) end
end

-- {'claim', queue, now, turn, claim, ttl, end, kept until, limit, after, most counts, target (0: tell of the
--  messages; the key of a queue of another tag), target's internal name or false, fresh salt, target's ttl, clients, keys, skipped}
-- Returns {word, last position, messages, salt, more}: 'claimed', with the queue's state if that is nothing; 'again'
-- behind the last position, and 'passed' if many were passed over; 'exhausted' with messages for a carrier; 'stale' with the head; 'missing' when the target has no head.
ops.claim = function(q, op)
  local now, turn, claim, ttl, ends, kept = op[3], op[4], op[5], op[6], op[7], op[8]
  local limit, after, most = op[9], op[10], op[11]
  local head = call('HMGET', q .. ':head', 'turn', 'salt')
  if head[1] ~= turn or not head[2] then return {'stale', '', {}, '', head_of(q, 'stale')} end
  if not free_due(q, now) then return {'again', after, {}, '', {}} end
  local found = scan(q, now, limit, after, most, names_of(op[16]), names_of(op[17]), names_of(op[18]))
  if #found.exhausted > 0 then
    if op[12] == 0 then return {'exhausted', after, found.exhausted, head[2], {}} end
    local target = tonumber(op[12]) and KEYS[op[12] + 1]
    if target and not salt_of(target, op[13], op[14]) then return {'missing', '', {}, '', {}} end
    move(q, head[2], found.exhausted, target or op[12], op[13], op[15], now)
  end
  if #found.taken == 0 then return {found.is_cut or 'claimed', found.last or '', {}, '', state_of(q)} end
  local claimed, held, states, positions = {}, {}, {}, {}
  for i, row in ipairs(found.taken) do
    local at, count = row[1], parsed(row[4]) + 1
    positions[i] = at
    claimed[2 * i - 1], claimed[2 * i] = 0, at
    held[2 * i - 1], held[2 * i] = ends, at
    row[3], row[4] = ends, count .. ' ' .. claim
    states[2 * i - 1], states[2 * i] = at, row[4]
  end
  keep(q, found.taken, kept)
  note(q, 'm', positions)
  many('HSET', q .. ':states', states, 2)
  if ttl > 0 then
    many('ZREM', q .. ':free', positions)
    many('ZADD', q .. ':claimed', claimed, 2)
    many('ZADD', q .. ':held', held, 2)
    call('HSET', q .. ':claims', claim, table.concat({ttl, ends, unpack(positions)}, ' '))
    call('ZADD', q .. ':leases', ends, claim)
    due(q, ends)
    wake(q, 0, ends)
  end
  return {'claimed', '', found.taken, head[2], {}}
end

-- {'pop', queue, now, limit, after, keys, skipped}: {word, last position, messages, salt}: 'popped'; 'sealed' with
-- messages that the caller takes once it has decrypted them; 'passed' or 'again' behind the last position
ops.pop = function(q, op)
  local now = op[3]
  local salt = call('HGET', q .. ':head', 'salt')
  if not salt then return {'popped', '', {}, ''} end
  if not free_due(q, now) then return {'again', op[5], {}, ''} end
  local found = scan(q, now, op[4], op[5], -1, {}, names_of(op[6]), names_of(op[7]))
  if #found.taken == 0 then return {found.is_cut or 'popped', found.last or '', {}, salt} end
  for _, row in ipairs(found.taken) do
    if is_sealed(row[5]) then return {'sealed', '', found.taken, salt} end
  end
  remove(q, positions_of(found.taken))
  return {'popped', '', found.taken, salt}
end

-- {'take', queue, now, positions}: those of the messages that were visible still, and are removed
ops.take = function(q, op)
  local taken = {}
  for _, at in ipairs(op[4]) do
    local expiry = call('ZSCORE', q .. ':expiring', at)
    if expiry and tonumber(expiry) > op[3] and call('ZSCORE', q .. ':free', at) then taken[#taken + 1] = at end
  end
  remove(q, taken)
  return taken
end

-- The claim's ttl, end and positions, if it is live.
local function live_claim(q, claim, now)
  local stored = call('HGET', q .. ':claims', claim)
  if not stored then return end
  local parts = {}
  for part in stored:gmatch('%S+') do parts[#parts + 1] = part end
  if tonumber(parts[2]) <= now then return end
  return tonumber(parts[1]), tonumber(parts[2]), {unpack(parts, 3)}
end

-- The messages that the claim holds.
local function held_by(q, claim, positions, now)
  local rows = {}
  for _, row in ipairs(rows_of(q, positions)) do
    local _, holder = parsed(row[4])
    if row[3] > now and row[2] > now and holder == claim then rows[#rows + 1] = row end
  end
  return rows
end

-- {'claim_get', queue, now, claim}: {ttl (-1: there is none), end, messages, salt}
ops.claim_get = function(q, op)
  local ttl, ends, positions = live_claim(q, op[4], op[3])
  if not ttl then return {-1, 0, {}, ''} end
  local rows = held_by(q, op[4], positions, op[3])
  if #rows == 0 then return {-1, 0, {}, ''} end
  return {ttl, ends, rows, call('HGET', q .. ':head', 'salt')}
end

local function store_claim(q, claim, ttl, ends, positions)
  call('HSET', q .. ':claims', claim, table.concat({ttl, ends, unpack(positions)}, ' '))
  call('ZADD', q .. ':leases', ends, claim)
  due(q, ends)
end

-- {'renew', queue, now, ttl, end, kept until, claims}: those that were renewed
ops.renew = function(q, op)
  local now, ttl, ends = op[3], op[4], op[5]
  local renewed = {}
  for _, claim in ipairs(op[7]) do
    local was, _, positions = live_claim(q, claim, now)
    local rows = was and held_by(q, claim, positions, now) or {}
    if #rows > 0 then
      local held = {}
      for i, row in ipairs(rows) do held[2 * i - 1], held[2 * i] = ends, row[1] end
      many('ZADD', q .. ':held', held, 2)
      keep(q, rows, op[6])
      note(q, 'm', positions_of(rows))
      store_claim(q, claim, ttl, ends, positions)
      renewed[#renewed + 1] = claim
    end
  end
  if #renewed > 0 then wake(q, 0, ends) end
  return renewed
end

-- {'renew_message', queue, now, ttl, end, kept until, claim, id}: {true}, or {false} when it is not held
ops.renew_message = function(q, op)
  local now, ttl, ends, claim = op[3], op[4], op[5], op[7]
  local at = resolve(q, op[8], call('HGET', q .. ':head', 'salt'))
  local was, _, positions = live_claim(q, claim, now)
  if not at or not was then return {false} end
  local rows = held_by(q, claim, {at}, now)
  if #rows == 0 then return {false} end
  keep(q, rows, op[6])
  note(q, 'm', {at})
  if ttl > 0 then
    call('ZADD', q .. ':held', ends, at)
  else
    call('ZREM', q .. ':held', at)
    call('ZREM', q .. ':claimed', at)
    call('ZADD', q .. ':free', 0, at)
    call('HINCRBY', q .. ':head', 'freed', 1)
  end
  local last = 0
  for _, row in ipairs(rows_of(q, positions)) do
    local _, holder = parsed(row[4])
    if holder == claim and row[3] > last then last = row[3] end
  end
  store_claim(q, claim, was, last, positions)
  wake(q, ttl > 0 and 0 or 1, ttl > 0 and ends or nil)
  return {true}
end

-- Makes held rows free again, with their claim counts lowered by `uncounted`; their positions.
local function give_back(q, rows, uncounted)
  local free, states, given = {}, {}, {}
  for i, row in ipairs(rows) do
    given[i], free[2 * i - 1], free[2 * i] = row[1], 0, row[1]
    states[2 * i - 1], states[2 * i] = row[1], (parsed(row[4]) - uncounted) .. ' '
  end
  note(q, 'm', given)
  many('ZREM', q .. ':held', given)
  many('ZREM', q .. ':claimed', given)
  many('ZADD', q .. ':free', free, 2)
  many('HSET', q .. ':states', states, 2)
  return given
end

-- {'release', queue, now, claim, 1: take back its count}: how many messages became visible
ops.release = function(q, op)
  local now, claim = op[3], op[4]
  local was, _, positions = live_claim(q, claim, now)
  if not was then return 0 end
  local released = give_back(q, held_by(q, claim, positions, now), op[5])
  call('HDEL', q .. ':claims', claim)
  call('ZREM', q .. ':leases', claim)
  call('HINCRBY', q .. ':head', 'freed', 1)
  wake(q, #released)
  return #released
end

-- {'unlease', queue, now, claim, positions}: gives back, uncounted, messages that can't be read
ops.unlease = function(q, op)
  return #give_back(q, held_by(q, op[4], op[5], op[3]), 1)
end

-- {'carry', queue, now, positions, jobs}: a job in the place of each message that is still free; jobs as in
-- parcel.lua
ops.carry = function(q, op)
  local gone = {}
  for i, at in ipairs(op[4]) do
    if call('ZSCORE', q .. ':free', at) then
      gone[#gone + 1] = at
      append_job(op[5][i], op[3])
    end
  end
  remove(q, gone)
  return #gone
end
