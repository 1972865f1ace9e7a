-- ARGV: "alone", "parents" or "family", then ids. Returns the clock, whether the store is new, and the records of the
-- jobs, of their parents, and of the first one's children.
local seen, records = {}, {}

local function add(id)
  if seen[id] then return end
  seen[id] = true
  records[#records + 1] = record(id)
end

local ids = #ARGV
for place = 2, ids do add(ARGV[place]) end
if ARGV[1] ~= 'alone' then
  for place = 2, ids do
    local parent = redis.call('HGET', 'job:' .. ARGV[place], 'parent_id')
    if parent then add(parent) end
  end
end
if ARGV[1] == 'family' then
  for _, member in ipairs(redis.call('ZRANGE', 'job:' .. ARGV[2] .. ':children', 0, -1)) do add(id_of(member)) end
end
return cjson.encode({clock(), is_new(), records})
