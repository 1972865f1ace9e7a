-- Ties the store to a volume. ARGV: schema version, the id of the volume that asks for it ("" only looks).
-- Returns the id of the volume that the store is tied to ("" for none), and whether this call did that.
local known = redis.call('GET', 'jobs:volume')
if known or ARGV[2] == '' then return cjson.encode({known or '', false}) end
if redis.call('GET', 'media_downloader:schema') ~= ARGV[1] then return cjson.encode({'schema', false}) end
-- In one step: nobody has yet looked for jobs on that volume.
redis.call('SET', 'jobs:rebuild', 'pending')
redis.call('SET', 'jobs:volume', ARGV[2])
return cjson.encode({ARGV[2], true})
