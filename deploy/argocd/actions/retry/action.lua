-- Requests one provisioning retry, and resets the count of retries.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["ohallo.eu/retry-requested-at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
