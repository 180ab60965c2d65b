-- Moves of whole queues between stores. Beside what common.lua names, this touches q:answers, q:answering,
-- q:cancelled, q:ended, and
--   q:head     life: the name of the queue's stay here; noting: the name of what is noted; changes: how many were
--              noted; move: the move that brought the queue here
--   q:changes  sorted set: what has changed, by the number of its last change: "m" and a position, "k" and a
--              digest, "c" and an id (common.lua notes it)
-- A queue that arrives is an internal queue `a` of the same tag until it is activated.

local AT_ONCE_BYTES = 1048576
local MOVED_KEYS = {
  ':records', ':states', ':free', ':claimed', ':delayed', ':held', ':expiring', ':claims', ':leases', ':moved',
  ':sealed', ':answers', ':answering', ':cancelled', ':ended',
}

local function claim_ttl(q, claim)
  return tonumber((call('HGET', q .. ':claims', claim) or '0'):match('^%d+'))
end

-- Messages as they are stored: those of `rows_of`, with the ttl of the claim; and how many of the positions these are.
local function exported(q, positions)
  local rows, size, looked = {}, 0, 0
  for _, row in ipairs(rows_of(q, positions)) do
    local _, claim = parsed(row[4])
    row[6] = row[3] > 0 and claim ~= '' and claim_ttl(q, claim) or 0
    rows[#rows + 1], size = row, size + #row[5]
    if size >= AT_ONCE_BYTES then break end
  end
  return rows
end

-- {'begin', queue, fresh name}: {name or '', number of the last change}
ops.begin = function(q, op)
  if call('HEXISTS', q .. ':head', 'salt') == 0 then return {'', 0} end
  call('HSETNX', q .. ':head', 'noting', op[3])
  noting[q] = true
  local head = call('HMGET', q .. ':head', 'noting', 'changes')
  return {head[1], tonumber(head[2] or 0)}
end

-- {'end', queue}
ops['end'] = function(q)
  call('HDEL', q .. ':head', 'noting')
  call('UNLINK', q .. ':changes')
  noting[q] = false
  return {true}
end

-- {'export', queue, position behind which to begin, limit}: {messages}
ops.export = function(q, op)
  local from, positions = op[3] == '' and '-' or '(' .. op[3], {}
  for _, state in ipairs({':free', ':claimed', ':delayed'}) do
    for _, at in ipairs(call('ZRANGEBYLEX', q .. state, from, '+', 'LIMIT', 0, op[4])) do
      positions[#positions + 1] = at
    end
  end
  table.sort(positions)
  while #positions > op[4] do positions[#positions] = nil end
  return exported(q, positions)
end

-- Of names and instants of `q:cancelled`: for each the name, the instant, and when that life ended or ''.
local function with_ends(q, notes)
  local whole = {}
  for i = 1, #notes, 2 do
    whole[#whole + 1], whole[#whole + 2] = notes[i], notes[i + 1]
    whole[#whole + 1] = call('HGET', q .. ':ended', notes[i]) or ''
  end
  return whole
end

-- {'export_notes', queue, 'answers' or 'cancelled', cursor, limit}: {cursor, names and values; as in `with_ends`}
ops.export_notes = function(q, op)
  if op[3] == 'answers' then
    local found = call('HSCAN', q .. ':answers', op[4], 'COUNT', op[5])
    return {found[1], found[2]}
  end
  local found = call('ZSCAN', q .. ':cancelled', op[4], 'COUNT', op[5])
  return {found[1], with_ends(q, found[2])}
end

-- {'changes', queue, name, number, limit}: {is known, messages, positions without one, answers, cancelled, number of
-- the last change that these are of, is all}
ops.changes = function(q, op)
  if call('HGET', q .. ':head', 'noting') ~= op[3] then return {false, {}, {}, {}, {}, 0, false} end
  call('ZREMRANGEBYSCORE', q .. ':changes', '-inf', op[4])
  local found = call('ZRANGEBYSCORE', q .. ':changes', '(' .. op[4], '+inf', 'WITHSCORES', 'LIMIT', 0, op[5])
  local rows, gone, answers, cancelled, last, size = {}, {}, {}, {}, op[4], 0
  local is_all = #found < 2 * op[5]
  for i = 1, #found, 2 do
    local kind, name = found[i]:sub(1, 1), found[i]:sub(2)
    last = tonumber(found[i + 1])
    if kind == 'm' then
      local row = exported(q, {name})[1]
      if row then
        rows[#rows + 1], size = row, size + #row[5]
      else
        gone[#gone + 1] = name
      end
    elseif kind == 'k' then
      local answer = call('HGET', q .. ':answers', name)
      if answer then answers[#answers + 1], answers[#answers + 2] = name, answer end
    else
      local at = call('ZSCORE', q .. ':cancelled', name)
      if at then cancelled[#cancelled + 1], cancelled[#cancelled + 2] = name, at end
    end
    if size >= AT_ONCE_BYTES then
      is_all = is_all and i == #found - 1
      break
    end
  end
  return {true, rows, gone, answers, with_ends(q, cancelled), last, is_all}
end

-- {'whole_head', queue}: {is anything known, life or '', rules or '', revision, until, turn, salt, ms, count}
ops.whole_head = function(q)
  local head = call(
    'HMGET', q .. ':head', 'life', 'rules', 'revision', 'until', 'turn', 'salt', 'ms', 'count'
  )
  return {
    call('EXISTS', q .. ':head') == 1, head[1] or '', head[2] or '', tonumber(head[3] or 0), tonumber(head[4] or 0),
    head[5] or '0', head[6] or '', tonumber(head[7] or 0), tonumber(head[8] or 0),
  }
end

local function forget(q, internal, member)
  unlink(q)
  call('UNLINK', q .. ':answers', q .. ':answering', q .. ':cancelled', q .. ':ended')
  call('HDEL', q .. ':head', 'salt', 'rules', 'until', 'turn', 'freed', 'life', 'move')
  call('HSET', q .. ':head', 'dropped_at', present)
  if internal then call('ZREM', T .. ':internal', internal) else call('ZREM', T .. ':clients', member) end
  due(q, present + DROPPED_KEPT_MS)
end

-- {'leave', queue, life, internal name or false, member of T:clients}
ops.leave = function(q, op)
  if call('HGET', q .. ':head', 'life') == op[3] then forget(q, op[4], op[5]) end
  return {true}
end

local function discard(a, name)
  forget(a, name)
  call('UNLINK', a .. ':head')
  call('ZREM', T .. ':due', a)
end

-- {'prepare', queue, arriving queue, its name, move, salt}
ops.prepare = function(q, op)
  local a = KEYS[op[3] + 1]
  if call('HGET', q .. ':head', 'move') == op[5] then return {true} end
  local salt = call('HGET', a .. ':head', 'salt')
  if salt and salt ~= op[6] then discard(a, op[4]) end
  salt_of(a, op[4], op[6])
  return {true}
end

-- {'discard', queue, arriving queue, its name}
ops.discard = function(_, op)
  discard(KEYS[op[3] + 1], op[4])
  return {true}
end

-- Whether the move may write: true; 'came' when it was activated; nil when it was discarded.
local function may_write(q, a, move)
  if call('HEXISTS', a .. ':head', 'salt') == 1 then return true end
  if call('HGET', q .. ':head', 'move') == move then return 'came' end
end

local function add_to_claim(a, claim, ttl, ends, at)
  local stored = call('HGET', a .. ':claims', claim)
  local positions = stored and stored:match('^%d+ %d+ (.*)$') or ''
  if not positions:find(at, 1, true) then positions = positions == '' and at or positions .. ' ' .. at end
  call('HSET', a .. ':claims', claim, ttl .. ' ' .. ends .. ' ' .. positions)
  call('ZADD', a .. ':leases', ends, claim)
end

local function import(a, row, record)
  local at, expiry, held, count, claim, ttl = unpack(row)
  call('HSET', a .. ':records', at, record)
  call('ZADD', a .. ':expiring', expiry, at)
  due(a, expiry)
  if count > 0 or claim ~= '' then call('HSET', a .. ':states', at, count .. ' ' .. claim) end
  call('ZADD', a .. (held == 0 and ':free' or claim ~= '' and ':claimed' or ':delayed'), 0, at)
  if held > 0 then
    call('ZADD', a .. ':held', held, at)
    if claim ~= '' then add_to_claim(a, claim, ttl, held, at) end
  end
  if key_of(record) ~= '' then
    call('ZADD', a .. ':sealed', 0, key_of(record) .. ':' .. at)
    call('ZADD', T .. ':sealed', 0, a)
  end
  local id = moved_of(record)
  if id ~= '' then call('HSET', a .. ':moved', 'i' .. id, at, 'p' .. at, id) end
end

-- {'import', queue, arriving queue, move, rows, first record, positions without a message, answers, cancelled}
-- rows: position, expiry, held until or 0, count, claim or '', its ttl; answers: digest, value, expiry
-- cancelled: id, until when it was delayed at the latest, when that life ended or false
ops.import = function(q, op)
  local a = KEYS[op[3] + 1]
  local may = may_write(q, a, op[4])
  if may ~= true then return {may == 'came'} end
  local former = op[7]
  for i, row in ipairs(op[5]) do
    former[#former + 1] = row[1]
    local moved = moved_of(ARGV[2 + op[6] + i])
    local at = moved ~= '' and call('HGET', a .. ':moved', 'i' .. moved)
    if at then former[#former + 1] = at end
  end
  remove(a, former)
  for i, row in ipairs(op[5]) do import(a, row, ARGV[2 + op[6] + i]) end
  for _, answer in ipairs(op[8]) do
    call('HSET', a .. ':answers', answer[1], answer[2])
    call('ZADD', a .. ':answering', answer[3], answer[1])
    due(a, answer[3])
  end
  for _, note in ipairs(op[9]) do
    call('ZADD', a .. ':cancelled', note[2], note[1])
    if note[3] then call('HSET', a .. ':ended', note[1], note[3]) end
    due(a, note[2] + KEPT_MS)
  end
  return {true}
end

-- A claim ends with the last of its messages.
local function end_claims(a)
  for _, claim in ipairs(call('HKEYS', a .. ':claims')) do
    local ttl, positions = call('HGET', a .. ':claims', claim):match('^(%d+) %d+ (.*)$')
    local last, kept = 0, {}
    for at in positions:gmatch('%S+') do
      local _, holder = parsed(call('HGET', a .. ':states', at))
      local held = tonumber(call('ZSCORE', a .. ':held', at) or 0)
      if holder == claim and held > 0 then
        kept[#kept + 1] = at
        last = math.max(last, held)
      end
    end
    if #kept == 0 then
      call('HDEL', a .. ':claims', claim)
      call('ZREM', a .. ':leases', claim)
    else
      call('HSET', a .. ':claims', claim, table.concat({ttl, string.format('%.0f', last), unpack(kept)}, ' '))
      call('ZADD', a .. ':leases', last, claim)
    end
  end
end

-- {'activate', queue, arriving queue, its name, move, fresh life, internal name or false, member of T:clients,
--  rules or false, revision, until, turn, ms, count}: {whether it is here}
ops.activate = function(q, op)
  local a, internal, member, rules = KEYS[op[3] + 1], op[7], op[8], op[9]
  local may = may_write(q, a, op[5])
  if may ~= true then return {may == 'came'} end
  local salt = call('HGET', a .. ':head', 'salt')
  local ms, count = last_of(q)
  if op[13] > ms or (op[13] == ms and op[14] > count) then ms, count = op[13], op[14] end
  end_claims(a)
  forget(q, internal, member)
  call('HSET', q .. ':head', 'revision', op[10], 'ms', ms, 'count', count)
  if rules then
    for _, name in ipairs(MOVED_KEYS) do
      if call('EXISTS', a .. name) == 1 then call('RENAME', a .. name, q .. name) end
    end
    call('HDEL', q .. ':head', 'dropped_at')
    call('HSET', q .. ':head', 'salt', salt, 'rules', rules, 'until', op[11], 'turn', op[12], 'life', op[6],
      'move', op[5], 'freed', 1)
    if internal then call('ZADD', T .. ':internal', 0, internal) else call('ZADD', T .. ':clients', 0, member) end
    if call('EXISTS', q .. ':sealed') == 1 then call('ZADD', T .. ':sealed', 0, q) end
    call('ZADD', T .. ':due', call('ZSCORE', T .. ':due', a) or present, q)
    wake(q, call('ZCARD', q .. ':free') + 1, nil, '-')
  end
  discard(a, op[4])
  return {true}
end
