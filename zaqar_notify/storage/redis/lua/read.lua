-- Reads. The keys are those of common.lua.

-- {'page', queue, now, position or false, id or '', limit, client or '', claimed too, delayed too}
-- Returns {word, last position looked at, messages, salt, state}: 'done', 'more' behind it, or 'again'.
ops.page = function(q, op)
  local now, marker, limit, client = op[3], op[4], op[6], op[7]
  local salt = call('HGET', q .. ':head', 'salt')
  if not salt then return {'done', '', {}, '', {}} end
  if not free_due(q, now) then return {'again', '', {}, salt, {}} end
  local state = state_of(q)
  if op[5] ~= '' then marker = call('HGET', q .. ':moved', 'i' .. op[5]) or marker end
  if not marker then return {'done', '', {}, salt, state} end
  local from = marker == '' and '-' or '(' .. marker
  local sources = {q .. ':free'}
  if op[8] then sources[#sources + 1] = q .. ':claimed' end
  if op[9] then sources[#sources + 1] = q .. ':delayed' end
  local taken, looked, wanted, last = {}, 0, limit, marker
  while #taken < limit and looked < 2 * MOST do
    local positions = {}
    for _, source in ipairs(sources) do
      for _, at in ipairs(call('ZRANGEBYLEX', source, from, '+', 'LIMIT', 0, wanted)) do
        positions[#positions + 1] = at
      end
    end
    if #positions == 0 then return {'done', last, taken, salt, state} end
    if #sources > 1 then table.sort(positions) end
    while #positions > wanted do positions[#positions] = nil end
    for _, row in ipairs(rows_of(q, positions)) do
      if #taken < limit and row[2] > now and (client == '' or client_of(row[5]) ~= client) then
        taken[#taken + 1] = row
        last = row[1]
      elseif #taken < limit then
        last = row[1]
      end
    end
    looked, from = looked + #positions, '(' .. positions[#positions]
    wanted = math.min(2 * wanted, MOST)
  end
  return {'more', last, taken, salt, state}
end

-- {'get', queue, now, ids}: {messages, salt}
ops.get = function(q, op)
  local salt = call('HGET', q .. ':head', 'salt')
  if not salt then return {{}, ''} end
  local positions, seen = {}, {}
  for _, id in ipairs(op[4]) do
    local at = resolve(q, id, salt)
    if at and not seen[at] then
      seen[at] = true
      positions[#positions + 1] = at
    end
  end
  table.sort(positions)
  local rows = {}
  for _, row in ipairs(rows_of(q, positions)) do
    if row[2] > op[3] then rows[#rows + 1] = row end
  end
  return {rows, salt}
end

-- The first (or last) message that is not delayed and has not expired.
local function end_of(q, now, command, from, to)
  local found
  for _, state in ipairs({':free', ':claimed', ':delayed'}) do
    local skip = 0
    while true do
      local positions = call(command, q .. state, from, to, 'LIMIT', skip, 50)
      local ended = #positions < 50
      for _, row in ipairs(rows_of(q, positions)) do
        if row[2] > now and (state ~= ':delayed' or row[3] <= now) then
          if not found or (from == '-') == (row[1] < found[1]) then found = row end
          ended = true
          break
        end
      end
      if ended or state == ':delayed' then break end
      skip = skip + 50
    end
  end
  return found
end

-- {'stats', queue, now}: {is complete, salt, claimed, free, oldest and newest, or neither}
ops.stats = function(q, op)
  local now = op[3]
  local salt = call('HGET', q .. ':head', 'salt')
  if not salt then return {true, '', 0, 0, {}} end
  if not free_due(q, now) then return {false, salt, 0, 0, {}} end
  local alive = call('ZCOUNT', q .. ':expiring', '(' .. now, '+inf')
  local claimed = call('ZCARD', q .. ':claimed')
  local oldest = end_of(q, now, 'ZRANGEBYLEX', '-', '+')
  local ends = oldest and {oldest, end_of(q, now, 'ZREVRANGEBYLEX', '+', '-')} or {}
  return {true, salt, claimed, alive - claimed, ends}
end

-- {'bytes', queue, now, offset}: {bytes, next offset or 0}, of clear bodies
ops.bytes = function(q, op)
  local positions = call('ZRANGEBYSCORE', q .. ':expiring', '(' .. op[3], '+inf', 'LIMIT', op[4], MOST)
  local sum = 0
  for _, record in ipairs(read_many('HMGET', q .. ':records', positions)) do
    if record then
      local _, _, _, size = header(record)
      sum = sum + size
    end
  end
  return {sum, #positions == MOST and op[4] + MOST or 0}
end

-- {'counts', 0, queues}: how many messages are on them
ops.counts = function(_, op)
  local sum = 0
  for _, q in ipairs(op[3]) do sum = sum + call('ZCARD', q .. ':expiring') end
  return sum
end

-- {'look', queue}: {state, next due or 0}
ops.look = function(q)
  return {state_of(q), tonumber(call('ZRANGE', q .. ':held', 0, 0, 'WITHSCORES')[2] or 0)}
end

-- {'keyed', 0, key}: the next id of a key behind this one, in any queue; or ''
ops.keyed = function(_, op)
  local least = ''
  for _, q in ipairs(call('ZRANGE', T .. ':sealed', 0, -1)) do
    local from = op[3] == '' and '-' or '[' .. op[3] .. ';'
    local first = call('ZRANGEBYLEX', q .. ':sealed', from, '+', 'LIMIT', 0, 1)[1]
    if first then
      local key = first:sub(1, -17)
      if least == '' or key < least then least = key end
    elseif call('EXISTS', q .. ':sealed') == 0 then
      call('ZREM', T .. ':sealed', q)
    end
  end
  return least:sub(1, -2)
end

-- {'sealed', 0, key, queue behind which to begin, or in which, position, limit}: {queue or '', {{position, record}…}}
ops.sealed = function(_, op)
  local key, at, limit = op[3], op[5], op[6]
  local queues = call('ZRANGEBYLEX', T .. ':sealed', op[4] == '' and '-' or '[' .. op[4], '+')
  for _, q in ipairs(queues) do
    local from = q == op[4] and '(' .. key .. ':' .. at or '[' .. key .. ':'
    local found = call('ZRANGEBYLEX', q .. ':sealed', from, '(' .. key .. ';', 'LIMIT', 0, limit)
    if #found > 0 then
      local positions, rows = {}, {}
      for i, member in ipairs(found) do positions[i] = member:sub(-16) end
      for i, record in ipairs(read_many('HMGET', q .. ':records', positions)) do
        rows[i] = {positions[i], record or ''}
      end
      return {q, rows}
    end
  end
  return {'', {}}
end

-- {'reseal', queue, position, key, former record, record}: whether it was as it was read
ops.reseal = function(q, op)
  local at, former, record = op[3], ARGV[3 + op[4]], ARGV[3 + op[5]]
  if call('HGET', q .. ':records', at) ~= former then return {false} end
  call('HSET', q .. ':records', at, record)
  note(q, 'm', {at})
  call('ZREM', q .. ':sealed', key_of(former) .. ':' .. at)
  call('ZADD', q .. ':sealed', 0, key_of(record) .. ':' .. at)
  return {true}
end
