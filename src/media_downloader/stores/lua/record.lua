-- Put in front of the other scripts: what a job is to them. Values are strings and stay strings: no number or date
-- of a job is ever read or written here, so none can be rounded.

-- {id, tombstone, pause flag, cancel flag, field, value, field, value, ...}
local function record(id)
  local key = 'job:' .. id
  local fields = redis.call('HGETALL', key)
  local grave = ''
  if #fields == 0 then grave = redis.call('HGET', 'jobs:tombstones', id) or '' end
  local pause = tostring(redis.call('EXISTS', key .. ':pause'))
  local cancel = tostring(redis.call('EXISTS', key .. ':cancel'))
  local found = {id, grave, pause, cancel}
  for place = 1, #fields do found[place + 4] = fields[place] end
  return found
end

-- An index's member ends in ":" and the job's id.
local function id_of(member)
  return string.match(member, '([^:]*)$')
end

-- Whether jobs may be on disk that are not here: they were never looked for, or all keys are gone.
local function is_new()
  return redis.call('EXISTS', 'jobs:rebuild') == 1 or redis.call('EXISTS', 'media_downloader:schema') == 0
end

-- The server's clock: the only one that leases know.
local function clock()
  local time = redis.call('TIME')
  return time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
end
