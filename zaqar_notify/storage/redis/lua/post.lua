-- Posts. Beside what common.lua names, this touches
--   q:answers q:answering   hash and sorted set (by expiry): "EXPIRY FINGERPRINT FIRST COUNT SALT" by
--                           digest of the idempotency key

-- The head, for a process that knew another: {'stale', rules, revision, until, turn, salt, freed, ms, count}
local function head_of(q, word)
  local head = call('HMGET', q .. ':head', 'rules', 'revision', 'until', 'turn', 'salt', 'ms', 'count')
  if not head[5] then return {word, false} end
  return {
    word, head[1], tonumber(head[2]), tonumber(head[3]), head[4], head[5],
    tonumber(head[6] or 0), tonumber(head[7] or 0),
  }
end

local function answer_of(q, key, now)
  local stored = call('HGET', q .. ':answers', key)
  if not stored then return end
  local expiry, fingerprint, first, count, salt = stored:match('^(%d+) (%S*) (%S+) (%d+) (%S+)$')
  if tonumber(expiry) > now then return {'remembered', fingerprint, first, tonumber(count), salt} end
end

-- {'remembered', now, key}
ops.remembered = function(q, op)
  return answer_of(q, op[4], op[3]) or {'none'}
end

local function blobs(first, count)
  local records = {}
  for i = 1, count do records[i] = ARGV[2 + first + i] end
  return records
end

-- {'post', queue, now, internal name or false, turn, salt, ms or false, count, lives, first record, key or false,
--  fingerprint, keep ms, jobs, whether messages are kept}; jobs as in parcel.lua
-- Returns {'posted', ms, count}, or why not: 'remembered', 'stale', 'behind', 'full'.
ops.post = function(q, op, full)
  local now, internal, turn, salt, ms, count = op[3], op[4], op[5], op[6], op[7], op[8]
  local lives, key, jobs = op[9], op[11], op[14]
  if key then
    local answer = answer_of(q, key, now)
    if answer then return answer end
  end
  if full and not internal then return {'full'} end
  if internal then
    salt = salt_of(q, internal, salt)
  else
    local head = call('HMGET', q .. ':head', 'turn', 'salt')
    if head[1] ~= turn or head[2] ~= salt then return head_of(q, 'stale') end
  end
  if ms then
    local last_ms, last_count = last_of(q)
    if ms < last_ms or (ms == last_ms and count <= last_count) then return {'behind', last_ms, last_count} end
  end
  if op[15] then
    ms, count = append(q, blobs(op[10], #lives / 2), lives, now, ms, count)
  else
    ms, count = take(q, #lives / 2, ms, count)
  end
  for _, job in ipairs(jobs) do append_job(job, now) end
  if key then
    local expiry = now + op[13]
    local answer = table.concat({expiry, op[12], position(ms, count), #lives / 2, salt}, ' ')
    call('HSET', q .. ':answers', key, answer)
    call('ZADD', q .. ':answering', expiry, key)
    note(q, 'k', {key})
    due(q, expiry)
  end
  return {'posted', ms, count, salt}
end
