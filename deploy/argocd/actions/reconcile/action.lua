-- Requests a reconcile now, whatever the backoff.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["ohallo.eu/reconcile-requested-at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
