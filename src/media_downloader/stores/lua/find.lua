-- Jobs in the order of an index, or of several merged into one, that pass a filter.
-- ARGV[1]: {keys, reverse, near, far, limit, budget, states, site, parent, words, ended}; what is left out is no filter.
-- Returns the last member that was looked at ("" when there are no more), and members with their records. Looks at
-- "budget" members at most, so that no list keeps others waiting; the caller goes on from where it stopped.
local ask = cjson.decode(ARGV[1])
local CHUNK = 100

local function read(key, from)
  local command = ask.reverse and 'ZREVRANGEBYLEX' or 'ZRANGEBYLEX'
  return redis.call(command, key, from, ask.far, 'LIMIT', 0, CHUNK)
end

local function head(list)
  if list.at > #list.members and #list.members == CHUNK then
    list.members, list.at = read(list.key, '(' .. list.members[CHUNK]), 1
  end
  return list.members[list.at]
end

local found, last, looked = {}, '', 0

-- Whether every child ended before a moment. Both are texts of one width, which compare as what they say.
local function family_ended(id)
  for _, member in ipairs(redis.call('ZRANGE', 'job:' .. id .. ':children', 0, -1)) do
    looked = looked + 1
    local finished = redis.call('HGET', 'job:' .. id_of(member), 'finished_at')
    if not finished or finished >= ask.ended then return false end
  end
  return true
end

local function passes(id)
  if ask.ended and not family_ended(id) then return false end
  if not (ask.site or ask.parent or ask.states or ask.words) then return true end
  local facts = redis.call('HMGET', 'job:' .. id, 'state', 'site', 'parent_id', 'search')
  if ask.states and not ask.states[facts[1] or ''] then return false end
  if ask.site and facts[2] ~= ask.site then return false end
  if ask.parent and (facts[3] or '') ~= ask.parent then return false end
  for _, word in ipairs(ask.words or {}) do
    if not string.find(facts[4] or '', word, 1, true) then return false end
  end
  return true
end

local lists = {}
for place, key in ipairs(ask.keys) do lists[place] = {key = key, members = read(key, ask.near), at = 1} end

while #found < ask.limit and looked < ask.budget do
  local best, first = nil, nil
  for _, list in ipairs(lists) do
    local member = head(list)
    if member and (not first or (ask.reverse and member > first) or (not ask.reverse and member < first)) then
      best, first = list, member
    end
  end
  if not best then
    last = ''
    break
  end
  best.at, last, looked = best.at + 1, first, looked + 1
  local id = id_of(first)
  if passes(id) then found[#found + 1] = {first, record(id)} end
end
return cjson.encode({last, found})
